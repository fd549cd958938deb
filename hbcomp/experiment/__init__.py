"""An experiment: what was asked (`config`) and the folder that holds what came out (`folder`)."""
