"""What is done to a prediction after the network: CRF, small components, outlines. Imports no model code."""
