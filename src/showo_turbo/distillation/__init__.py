"""Consistency distillation: train a student to jump along the trajectories of a frozen teacher.

    prompts ----teacher, guided, greedy--> ImageTrajectories -sample k, segment end e-> u^k with soft labels -+
    dialogues --teacher, Jacobi----------> JacobiTrajectory --sample j, segment end e-> v^j, v^e, v^J --------+-> loss
    texts ---------------------------------------------------------------------------> ids --------------------+

Both kinds of trajectories are cut into segments, and the student learns to reach the end of a segment from any state in
it (Show-o Turbo, arXiv 2502.05415, section 3). Later stages have fewer, longer segments, until one forward pass
replaces a whole trajectory.

config                      the configuration of stages
loss_terms                  the configuration of the terms of a stage's loss
stages                      entry point: checks, then every stage in order
trajectory_sources          the teacher's trajectories: generated for every batch, or stored in files
trajectory_files            the format of these files
sharded_teacher             a teacher whose weights are sharded over the processes
on_policy                   rollouts of the student's policy, labelled by the teacher
start_states                start states of rollouts, fully masked or with a known part
rollouts                    prompts and dialogues to trajectories
image_trajectories          image rollouts with soft labels
text_trajectories           Jacobi trajectories of answers
segments                    the segments of a trajectory
soft_labels                 distributions over image codes
consistency_task            one stage as a task of the training loop
objectives                  the terms of the loss, from trajectories to scalars
distribution_matching       a loss on images of the student, and its score
distribution_matching_task  a stage with that loss
latents                     what the codes of an image have in common before any is known
losses                      masked means of cross entropies
progress                    a measure for the log: forward passes per block
"""
