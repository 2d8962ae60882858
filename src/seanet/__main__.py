from seanet.cli import main

main()
