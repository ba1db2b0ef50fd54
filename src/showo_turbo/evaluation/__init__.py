"""Evaluate generated images and answers on the built-in world with its exact detector.

statistics         fractions with confidence intervals
geneval_rules      prompts and images -> GenEval's six categories
pope               yes-or-no answers -> POPE's scores
scene_questions    held-out scenes -> questions, and scores of answers and descriptions
reconstruction     accuracy of the detector with and without the image tokenizer
scene_benchmark    a pipeline -> its scores in text to image and understanding
tables             scores -> a table and the stamp of a JSON file
comparison         teacher and students on the same prompts, questions and seeds
comparison_tables  a comparison -> the paper's two tables in Markdown
comparison_chart   a comparison -> scores over the steps as a PNG
"""
