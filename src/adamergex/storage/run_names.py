"""Names of files in the folder of a run that more than one package knows."""

# What the run does; in whichever folder it is, that is the folder of a run.
RECIPE = "recipe.yaml"
# Locked by the process that works in the folder.
LOCK = ".lock"
# Written last, and removed before anything is made anew.
SCORES = "scores.jsonl"
