"""The built-in worlds: scenes of coloured shapes or of clip-art, their images and texts, and an exact detector.

random_scene -> Scene -> render -> image
                      -> language: captions, questions with answers, descriptions
image -> detect -> Scene, so generated images and texts are scored without a neural network

scene       objects at places, the same for all worlds
language    what the texts of all worlds have in common
split       combinations of attributes that are held out of training
world       everything of one world as an object
worlds      the worlds by name
benchmark   GenEval prompts for held-out combinations
pool        training scenes with their image codes
shapes/     the world of coloured shapes, 64 x 64 pixels
clipart/    the world of clip-art, 128 x 128 pixels
"""
