"""Training: how the shipped weights were made, and how a site makes its own.

detector │ classifier │ second_look ─► loop ─► weights          site_model: fitted, without a network
insertion: examinations of the engine that sets nodules into the detector's samples
"""
