"""The built-in world: scenes of coloured shapes, their pictures, their language, and an exact judge of both.

random_scene -> Scene -> render -> picture
                      -> language: captions, questions with answers, descriptions
picture -> detector -> Scene again, so any generated picture or sentence can be judged without a neural network
"""
