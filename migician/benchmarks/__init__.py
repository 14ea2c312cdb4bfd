"""MIG-Bench and what comes after it: load the questions, word the prompt, score the replies."""
