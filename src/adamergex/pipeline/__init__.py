"""From a recipe, or from adapters × tasks × languages, to results: resolve the world, plan stages, make them, report.

`resolve` looks at files and models once; the planners are pure; `kinds` is the table of what can be made, one file for
each kind in `stages`; `worker` holds what is resident.
"""
