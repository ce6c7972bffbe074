"""A trained model that acts: the policy, and its server."""
