"""Finished study ─► files. Each output is a file here behind one interface, picked by name from a table.

interface    what an output is                  registry    which there are; importing it is cheap
write        the files of one study             tables      worklist, findings, candidates, refused: over all studies
report_json, page, candidates, masks: the outputs
"""
