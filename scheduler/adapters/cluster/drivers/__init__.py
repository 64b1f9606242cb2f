"""How each kind of workload is changed: counts of roles, and runs of Jobs.

`kinds` pairs each kind with its driver, which knows what holds a count and who goes when it
falls; `scaling` applies an action through it, `jobs` starts, warns, stops and resizes Jobs. All
write through `writing`: one JSON Patch whose `test` operations are the preconditions.

A count and Tidal's annotations on it change in one patch of the object that holds the count. The
scale subresource would need a second write for the annotations, and a crash between the two would
make Tidal's own count look like somebody's edit, or an edit look like Tidal's. Nor would it need
fewer rights: annotations are written with the right to patch the object, with or without /scale.
"""
