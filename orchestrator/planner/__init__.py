"""Plans a run: every step for every host, before anything is contacted."""
