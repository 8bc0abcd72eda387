"""The order in which the methods of a phase act, lowest rank first; a method in a file of its own may rank between."""

MIDDLE = 50
"""Of a method that says nothing."""

# PREDICTIONS: what cond and uncond are
ANOTHER_MODEL = 10  # autoguidance: what all others then take for uncond
AGREEMENT = 15  # adaptive: compares the predictions as the models gave them
NOISE = 20  # noisy_condition: before anything is measured against cond
ANOTHER_CONDITION = 30  # perp_neg: a cond and an uncond of its own
FITTED = 90  # cfg_zero_star: fits what guidance leads away from in the end; and its waiting, over every other result
TANGENTIAL = 95  # tcfg: damps what is left

# DIFFERENCE: cond - uncond
MOMENTUM = 10  # momentum: of the difference as the models gave it
PROJECTED = 20  # apg
FREQUENCIES = 30  # fdg
PLACES = 40  # regional: last, so that nothing spreads from place to place after it

# SCALE: one method of a pipeline decides it
EFFECTIVE_SCALE = 10  # cfg_pp, feedback, mambo_g

# RESULT: of the three that decide its size a pipeline has one; then its extremes
SIZE = 10  # rescale
SIZE_CAPPED = 20  # norm_cap
SIZE_OF_PLACES = 30  # cfg_norm
EXTREMES = 40  # dynamic_threshold
