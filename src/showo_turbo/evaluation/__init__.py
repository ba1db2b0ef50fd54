"""Evaluation on the built-in world: pictures and answers against the exact judge.

statistics      shares with confidence intervals
text_to_image   held-out prompts -> pictures -> GenEval's six categories
understanding   held-out pictures -> questions and descriptions
report          scores -> a table and a stamped JSON file
"""
