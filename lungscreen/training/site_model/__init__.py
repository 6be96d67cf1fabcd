"""A site's own model of an outcome: cases ─► logistic model on the network's logit and the patient data."""

from __future__ import annotations

from lungscreen.training.site_model.cases import Cases, read_cases
from lungscreen.training.site_model.train import SiteModelTraining, train_site_model

__all__ = ["Cases", "SiteModelTraining", "read_cases", "train_site_model"]
