"""Benchmarks as data: what each measures, its official files in and out, and its score.

definition    the fields of a benchmark; scores with intervals
registry      benchmarks by name
drawing       geneval, geneval2, dpg_bench, hpsv2, image_reward, clip_score, fid
questions     pope, mme, mmmu, scienceqa, captions, vqa; answer_rules has the parsing that they share
"""
