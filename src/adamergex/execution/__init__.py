"""Making what a plan says: stages as data, the keys that say what is there already, the run folder, the executor.

Nothing here knows a recipe or a kind of stage: the table of kinds is handed in (`adamergex.pipeline.kinds`).
"""
