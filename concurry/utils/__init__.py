"""Where older code finds `ProgressBar`; everything here is exported from `concurry` itself."""
