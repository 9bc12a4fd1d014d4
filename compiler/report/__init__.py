"""What a job reports: the records of ``report.json``, its sentences, and the HTML page."""
