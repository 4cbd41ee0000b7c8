"""The loops: training, evaluation, checkpoints, logs. They receive built objects."""
