"""The reading room: people read studies in a browser, with CAD as second reader, concurrently or as triage.

    results folder ─► studies ─┐
    pack (pixels)  ─► slices  ─┼─► routes ─► browser
    room.sqlite    ◄─► reads  ─┘      ▲
                   gate: what a reader may see of CAD, and when

config    settings: room.toml            store     the database: tables, migrations, transactions
accounts  people, sessions, tokens       audit     what was done, in a chain that shows changes
studies   the worklist's rows            pack      a study's voxels, lungs and outlines, compressed once
reads     the state of a read            rules     what the product's rules say of a reader's words
worker    what takes a processor         service   uploads and jobs
app       everything put together        routes/   one file a part of docs/reference/room-api.md
"""
