"""Generation: text and images alike step along a trajectory of states towards a fixed answer (see `trajectory`)."""
