"""Fine-tuning: rows, the trainer, checkpoints and the trained model's folder."""
