"""``seanet bench``: time, memory and arithmetic of models side by side, stage by stage, in one process."""
