"""What runs jobs: Celery tasks that supervise one child process each. No Celery process ever imports TensorFlow."""
