"""ablate: trainings of several arms over seeds, their trials, and what can be concluded of them."""
