"""Consistency distillation: a student learns to jump along the trajectories that a frozen teacher walks.

    prompts ----teacher, guided, greedy--> ImageTrajectories --pick k, segment end e--> u^k with soft labels --+
    dialogues --teacher, Jacobi----------> JacobiTrajectory ---pick j, segment end e--> v^j, v^e, v^J ---------+--> loss
    texts --------------------------------------------------------------------------> ids ---------------------+

Both kinds of trajectories are cut into segments, and the student learns to reach the end of a segment from anywhere in
it (Show-o Turbo, arXiv 2502.05415, section 3). A curriculum of stages makes segments longer, until one pass is to do
what the whole trajectory did.
"""
