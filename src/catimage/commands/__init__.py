"""What ``catimage`` does besides the stages, a module each: look ahead, compare, run an experiment,
add a candidate.
"""
