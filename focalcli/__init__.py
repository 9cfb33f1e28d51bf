"""focal: what class imbalance does to a detector, and which focal loss answers it."""

__version__ = "0.1.0"
