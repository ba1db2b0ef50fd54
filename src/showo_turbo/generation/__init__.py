"""Generation: text and images alike are a trajectory of states towards a fixed answer (see `trajectory`)."""
