/* The smallest C program outside the tree: includes, links, asks for the version. */
#include <toolring.h>

#include <stdio.h>

int main(void)
{
    printf("%s\n", tr_version());
    return 0;
}
