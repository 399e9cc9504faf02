"""What every training run needs: devices, optimizers, checkpoints, records."""
