"""From a trained network to a folder that predicts on its own, and the prediction from such a folder.

`export` writes and proves it, `Predictor` runs it. Nothing here but `export`, its
`writer` and `predict` imports model code.
"""
