"""A DICOM node: receives studies, has the batch read them, sends the results back.

association ─► incoming/ ─► inbox/ ─► batch ─► results/ ─► outbox ─► destinations
receive       arrivals              (lungscreen.batch)    outbox      send
"""
