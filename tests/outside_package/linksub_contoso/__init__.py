"""What Contoso adds to linksub."""
