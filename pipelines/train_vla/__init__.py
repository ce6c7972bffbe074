"""train-vla: the stores of a training, opened, paired up and looked over."""
