"""The transfer record: what lies on a medium, who vouches for it and boxes to sign, as JSON, as a table and on paper."""
