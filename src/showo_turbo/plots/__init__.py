"""Pictures of trajectories: partly masked images step by step, and answers with their settled tokens.

trajectories    plot_trajectory and animate_trajectory, of outputs that have a trajectory
canvas_frames   draws images on their way
token_frames    draws answers on their way
blocks          texts and pictures, stacked without overlaps
"""
