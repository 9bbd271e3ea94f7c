"""Names that a page must show as they are."""

HOSTILE_GROUPS = {"group1": "<b>A&B", "group2": "$x$ <script>", "group3": "plain"}
