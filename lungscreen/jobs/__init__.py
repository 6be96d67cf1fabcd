"""What the commands do: screen, detect alone, assess alone; and what these share.

screen     studies to reports: a batch of a handful     detect    volumes to candidates
assess     a reader's marks to findings                 studies   one study after the other, without a ledger
guard      what a failure of a study becomes, in every job and in the batch
"""
