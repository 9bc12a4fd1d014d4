"""The main job from a model file to a folder with a better one: options, resolving, running, choosing, delivering."""
