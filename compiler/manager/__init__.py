"""The pass manager: what a pass is, how pipelines are written down, how they run and are judged."""
