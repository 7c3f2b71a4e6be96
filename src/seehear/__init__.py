"""seehear learns to see by hearing and to hear by seeing, from unlabelled videos."""
