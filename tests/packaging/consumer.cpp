// The smallest C++17 program outside the tree. ALL_PUBLIC_HEADERS names a generated file that
// includes every installed header, so each of them is known to be clean C++.
#include ALL_PUBLIC_HEADERS

#include <cstdio>

int main()
{
    std::printf("%s\n", tr_version());
    return 0;
}
