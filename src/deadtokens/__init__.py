"""deadtokens: which tokens are dead, what do their vectors look like, does a simple story fit."""
