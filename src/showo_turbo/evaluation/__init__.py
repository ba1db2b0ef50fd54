"""Evaluate generated images and answers on the built-in world with its exact detector.

statistics         fractions with confidence intervals
benchmarks         published benchmarks: official files in and out, and scores
items              prompts and questions of a benchmark, read from its official data
item_store         results of items in a folder that several processes fill
run                one driver for every published benchmark
presets            rows of the paper's tables
benchmark_tables   scores of a benchmark beside the published ones
geneval_rules      prompts and images -> GenEval's six categories
scene_questions    held-out scenes -> questions, and scores of answers and descriptions
reconstruction     accuracy of the detector with and without the image tokenizer
scene_benchmark    a pipeline -> its scores in text to image and understanding
tables             scores -> a table and the stamp of a JSON file
comparison         teacher and students on the same prompts, questions and seeds
comparison_tables  a comparison -> the paper's two tables in Markdown
comparison_chart   a comparison -> scores over the steps as a PNG
"""
