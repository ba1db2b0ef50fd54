"""The built-in world: scenes of coloured shapes, their images and texts, and an exact detector.

random_scene -> Scene -> render -> image
                      -> language: captions, questions with answers, descriptions
image -> detector -> Scene, so generated images and texts are scored without a neural network

split       combinations of attributes that are held out of training
benchmark   GenEval prompts for held-out combinations
pool        training scenes with their image codes
"""
