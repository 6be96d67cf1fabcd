"""What the commands do beside the batch: detect alone, assess alone; and what these share with it.

detect     volumes to candidates                        assess    a reader's marks to findings
studies    one study after the other, without a ledger
guard      what a failure of a study becomes, in every job and in the batch
"""
