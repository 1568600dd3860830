"""
What all tests share.
"""

import os

from hypothesis import settings

# The gate must say the same of the same commit; elsewhere each run looks at other examples.
settings.register_profile("gate", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("roam", deadline=None, print_blob=True)
settings.load_profile("gate" if os.environ.get("CI") else "roam")
