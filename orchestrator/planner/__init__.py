"""What will happen where, worked out before anything is contacted."""
