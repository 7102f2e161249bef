"""Programs that run in the user's Python environment, as the user.  They import nothing of ours."""
