"""What a job tells: the records of ``report.json``, its sentences, and the HTML page."""
