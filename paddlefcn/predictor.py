"""`Predictor` under the name that programs import it by."""

from paddlefcn.deploy.predictor import Predictor

__all__ = ["Predictor"]
